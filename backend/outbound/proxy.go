package outbound

import (
	"errors"
	"net/url"
)

// ParseProxy reads the address of a proxy, nil for an empty one.
func ParseProxy(address string) (*url.URL, error) {
	if address == "" {
		return nil, nil
	}
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("must be like http://proxy.example.com:3128")
	case u.User != nil:
		return nil, errors.New("has a user name, and addresses appear in answers and logs: let the proxy recognize Vault by its IP address instead")
	}
	t, err := targetOf(u)
	if err != nil {
		return nil, err
	}
	return u, Rule{}.admit(t, false)
}
