package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/preflight"
)

// ErrOwned is in every error that says that another mount manages a user.
var ErrOwned = errors.New("it has another owner")

// Owner says who manages a user of a server. It is a line of the comment that PostgreSQL
// keeps about the user, which everybody reads there: other mounts, and other Vaults.
type Owner struct {
	// Mount is the id that a mount has made once.
	Mount string `json:"mount"`
	// Path is where it was mounted when the line was written, for people.
	Path string `json:"path,omitempty"`
	// Role and Secret are empty of a user that was taken over, until a secret has it.
	Role   string `json:"role,omitempty"`
	Secret string `json:"secret,omitempty"`
}

// Owners says which secret of this mount manages a user by a connection. Of a user that
// none manages, the owner is the mount alone.
type Owners func(ctx context.Context, connection, username string) (Owner, error)

// ownerMark begins the line.
const ownerMark = "Managed by smvm: "

// maxComment is how long a comment is at most that is written to, in bytes.
const maxComment = 8000

// String says it in words. What is in a comment may be anybody's, so it is quoted.
func (o Owner) String() string {
	if o.Role == "" {
		return fmt.Sprintf("mount %.100q with the id %.100q, of this Vault or another one", o.Path, o.Mount)
	}
	return fmt.Sprintf("secret %.100q of role %.100q, in mount %.100q with the id %.100q, of this Vault or another one", o.Secret, o.Role, o.Path, o.Mount)
}

// splitComment returns the owner that a comment names, the zero one if it names none, and
// what people wrote.
func splitComment(comment string) (owner Owner, kept string) {
	var lines []string
	for _, line := range strings.Split(comment, "\n") {
		var named Owner
		text, marked := strings.CutPrefix(line, ownerMark)
		if marked && json.Unmarshal([]byte(text), &named) == nil && named.Mount != "" {
			owner = named
			continue
		}
		lines = append(lines, line)
	}
	return owner, strings.Join(lines, "\n")
}

// Note is what a server says about the owner of a user.
type Note struct {
	Username string
	comment  string
	// Writable says that the administrator may write the comment.
	Writable bool
	// limit is the user's limit of connections.
	limit int
	Found bool
}

// Owner is whom the comment names.
func (n Note) Owner() Owner {
	owner, _ := splitComment(n.comment)
	return owner
}

// Check refuses a user whom another mount manages.
func (n Note) Check(us Owner, connection string) error {
	them := n.Owner()
	if them.Mount == "" || them.Mount == us.Mount {
		return nil
	}
	how := preflight.Command("vault", "write", us.Path+"connections/"+connection, "take_over="+n.Username)
	return fmt.Errorf("%w: %q is managed by %s: two owners overwrite each other's passwords. Delete the secret there. To manage the user here instead, have an administrator of this mount write take_over to the connection%s",
		ErrOwned, n.Username, them, how.Clause())
}

// name returns the statement that writes the owner into the comment and keeps what
// people wrote; the zero owner is taken out. It is empty if there is nothing to write,
// or no right to.
func (n Note) name(owner Owner) (string, error) {
	if n.Owner() == owner || !n.Writable {
		return "", nil
	}
	text, err := n.Naming(owner)
	if err != nil {
		return "", err
	}
	value := "NULL"
	if text != "" {
		value = QuoteLiteral(text)
	}
	return "COMMENT ON ROLE " + QuoteName(n.Username) + " IS " + value, nil
}

// Naming is the comment that names that owner, and keeps what people wrote.
func (n Note) Naming(owner Owner) (string, error) {
	_, text := splitComment(n.comment)
	if owner == (Owner{}) {
		return text, nil
	}
	line, err := json.Marshal(owner) //nolint:gosec // the name of a secret
	if err != nil {
		return "", fmt.Errorf("encode owner: %w", err)
	}
	return strings.TrimPrefix(text+"\n"+ownerMark+string(line), "\n"), nil
}

// aboutOwner asks for a note. It is one text, so that it can be the last statement of a
// message. Who may set the password of a role may write its comment.
func aboutOwner(username string) string {
	return `SELECT pg_catalog.json_build_object('limit', r.rolconnlimit, 'comment', coalesce(d.description, ''), 'writable',
			(SELECT a.rolsuper OR a.rolcreaterole AND NOT r.rolsuper AND (pg_catalog.current_setting('server_version_num')::pg_catalog.int4 < 160000
				OR pg_catalog.pg_has_role(a.oid, r.oid, 'MEMBER WITH ADMIN OPTION')) FROM pg_catalog.pg_roles a WHERE a.rolname = current_user))::pg_catalog.text
		FROM pg_catalog.pg_roles r LEFT JOIN pg_catalog.pg_shdescription d ON d.objoid = r.oid AND d.classoid = 'pg_catalog.pg_authid'::pg_catalog.regclass
		WHERE r.rolname = ` + QuoteLiteral(username)
}

// noteOf decodes the answer to aboutOwner, which is empty where there is no such user.
func noteOf(username, answer string) (Note, error) {
	n := Note{Username: username}
	if answer == "" {
		return n, nil
	}
	var told struct {
		Limit    int    `json:"limit"`
		Comment  string `json:"comment"`
		Writable bool   `json:"writable"`
	}
	if err := json.Unmarshal([]byte(answer), &told); err != nil {
		return n, fmt.Errorf("read who manages %q: %w", username, errors.New("the engine does not understand the answer"))
	}
	n.Found, n.limit, n.comment = true, told.Limit, told.Comment
	n.Writable = told.Writable && len(told.Comment) <= maxComment && utf8.ValidString(told.Comment)
	return n, nil
}
