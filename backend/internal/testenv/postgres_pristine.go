package testenv

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
)

// pristines are the new database clusters of which servers get copies, by the directory
// of the server's programs. initdb needs a second of processor time, a copy a twentieth.
// The directories stay reachable: a collected one is removed.
var pristines = struct {
	mu sync.Mutex
	of map[string]*Postgres
}{of: map[string]*Postgres{}}

// pristine returns the new database cluster that servers of these programs begin with.
// They share its superuser's password.
func pristine(ctx context.Context, bin string) (*Postgres, error) {
	pristines.mu.Lock()
	defer pristines.mu.Unlock()
	if pg, ok := pristines.of[bin]; ok {
		return pg, nil
	}
	pg, err := placePostgres(ctx, bin)
	if err == nil {
		pg.Password = rand.Text()
		err = pg.initCluster(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, pg.Stop())
	}
	pristines.of[bin] = pg
	return pg, nil
}

// initCluster runs initdb.
func (pg *Postgres) initCluster(ctx context.Context) error {
	pwfile := pg.scratch.path("password")
	verifier, err := quickVerifier(pg.Password)
	if err != nil {
		return err
	}
	if err := writeOwned(pwfile, verifier+"\n", pg.user); err != nil {
		return err
	}
	if err := pg.makeDirectory("data"); err != nil {
		return err
	}
	// --no-sync leaves out one sync of the whole new cluster; the server itself
	// syncs as it would in production.
	initdb := pg.command(ctx, "initdb", "-D", pg.scratch.path("data"), "-U", Superuser, "--pwfile", pwfile,
		"--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync")
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("run initdb: %w: %s", err, out)
	}
	if err := os.Remove(pwfile); err != nil {
		return fmt.Errorf("remove password file: %w", err)
	}
	return nil
}

// quickVerifier is what PostgreSQL stores of a password for SCRAM, with one iteration
// instead of 4096: the superuser of the harness logs in all the time, and its password is
// random.
func quickVerifier(password string) (string, error) {
	salt := []byte(rand.Text())[:16]
	salted, err := pbkdf2.Key(sha256.New, password, salt, 1, sha256.Size)
	if err != nil {
		return "", fmt.Errorf("hash the superuser's password: %w", err)
	}
	keyed := func(text string) []byte {
		mac := hmac.New(sha256.New, salted)
		mac.Write([]byte(text))
		return mac.Sum(nil)
	}
	stored := sha256.Sum256(keyed("Client Key"))
	encode := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$1:%s$%s:%s", encode(salt), encode(stored[:]), encode(keyed("Server Key"))), nil
}

// copyCluster copies a pristine database cluster and makes it another one: by its
// system identifier, by which the engine knows servers apart.
func (pg *Postgres) copyCluster(ctx context.Context, from *Postgres) error {
	pg.Password = from.Password
	data := pg.scratch.path("data")
	cp := exec.CommandContext(context.WithoutCancel(ctx), "cp", "-R", "-p", from.scratch.path("data"), data) //nolint:gosec // our own
	if out, err := cp.CombinedOutput(); err != nil {
		return fmt.Errorf("copy database cluster: %w: %s", err, out)
	}
	var identifier [8]byte
	_, _ = rand.Read(identifier[:]) // never fails
	identifier[7] &= 0x7f           // pg_control_system() shows it as a bigint
	segments, err := filepath.Glob(filepath.Join(data, "pg_wal", "0*"))
	if err == nil && len(segments) != 1 {
		err = fmt.Errorf("a new database cluster has %d segments of WAL", len(segments))
	}
	if err != nil {
		return err
	}
	return errors.Join(
		identify(filepath.Join(data, "global", "pg_control"), identifier),
		overwrite(segments[0], walIdentifier, identifier[:]),
	)
}

// walIdentifier is where the first page of a segment of WAL has the system identifier:
// XLogLongPageHeaderData.
const walIdentifier = 24

// identify writes the system identifier into pg_control, which begins with it, and the
// checksum of all before it anew. Where that stands differs with the major version.
func identify(control string, identifier [8]byte) error {
	text, err := os.ReadFile(control) //nolint:gosec // our own
	if err != nil {
		return fmt.Errorf("read pg_control: %w", err)
	}
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	for at := len(identifier); at+4 <= min(len(text), 512); at += 4 {
		if crc32.Checksum(text[:at], castagnoli) != binary.NativeEndian.Uint32(text[at:]) {
			continue
		}
		copy(text, identifier[:])
		sum := binary.NativeEndian.AppendUint32(nil, crc32.Checksum(text[:at], castagnoli))
		return errors.Join(overwrite(control, 0, identifier[:]), overwrite(control, int64(at), sum))
	}
	return errors.New("find the checksum in pg_control: there is none")
}

// overwrite writes data into a file at an offset.
func overwrite(path string, at int64, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0) //nolint:gosec // our own
	if err != nil {
		return fmt.Errorf("open to overwrite: %w", err)
	}
	_, err = f.WriteAt(data, at)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("overwrite: %w", err)
	}
	return nil
}
