package smvmcreds

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// maxTTL is the longest wait until the next read, whatever an answer says.
const maxTTL = 24 * time.Hour

// errOtherRotation says that an answer has the version that the reader has, of another
// rotation.
var errOtherRotation = errors.New("read the answer: its version is that of another rotation")

// parse makes credentials of an answer of creds. What creds never answers is an
// error, for which the reader keeps what it has.
func parse(data map[string]any, have *Credentials) (*Credentials, error) {
	version, err := whole(data, "version", 1)
	if err != nil {
		return nil, err
	}
	ttl, err := whole(data, "ttl", 0)
	if err != nil {
		return nil, err
	}
	c := &Credentials{Version: version, values: map[string]string{}}
	// The ttl is cut to whole seconds, so what it waits for comes within the next.
	c.TTL = time.Duration(min(ttl, int(maxTTL/time.Second)-1)+1) * time.Second
	text, _ := data["last_vault_rotation"].(string)
	c.LastRotation, _ = time.Parse(time.RFC3339, text)
	if data["changed"] == false {
		if have == nil || have.Version != version {
			return nil, errors.New("read the answer: it says that nothing has changed since a version that was not asked about")
		}
		if !c.LastRotation.Equal(have.LastRotation) {
			return nil, errOtherRotation
		}
		c.values = have.values
		return c, nil
	}
	for name, value := range data {
		if s, ok := value.(string); ok && name != "last_vault_rotation" && name != "next_vault_rotation" {
			c.values[name] = s
		}
	}
	if len(c.values) == 0 {
		return nil, errors.New("read the answer: it has no values; is this the path of smvm/creds/<role>?")
	}
	return c, nil
}

// whole returns a number of an answer.
func whole(data map[string]any, name string, least int) (int, error) {
	n, _ := data[name].(json.Number)
	i, err := strconv.Atoi(n.String())
	if err != nil || i < least {
		return 0, fmt.Errorf("read %s of the answer: it is no whole number from %d on; is this the path of smvm/creds/<role>?", name, least)
	}
	return i, nil
}
