package destination

import (
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/smvm/vault-plugin-secrets-smvm/backend/outbound"
	"github.com/smvm/vault-plugin-secrets-smvm/backend/rotation"
)

// TestStamps are what the order of copies rests on.
func TestStamps(t *testing.T) {
	t.Parallel()
	at := func(version, minute int) Stamp {
		return Stamp{version, time.Date(2026, time.March, 1, 12, minute, 0, 0, time.UTC)}
	}
	for _, c := range []struct {
		one, other Stamp
		older      bool
	}{
		{at(1, 1), at(2, 2), true},
		{at(2, 2), at(1, 1), false},
		{at(2, 2), at(2, 2), false},
		{at(2, 9), at(3, 3), false}, // restored, and rotated since
		{at(3, 1), at(2, 9), false}, // by a node whose clock is behind
		{at(1, 1), Stamp{}, false},
	} {
		if got := c.one.older(c.other); got != c.older {
			t.Errorf("%v older than %v: %t", c.one, c.other, got)
		}
		if got := parseStamp(c.one.String()); got != c.one {
			t.Errorf("%v became %v", c.one, got)
		}
	}
	for _, text := range []string{"", "x", "1", "1-", "-1", "1-x"} {
		if got := parseStamp(text); got != (Stamp{}) {
			t.Errorf("%q is %v", text, got)
		}
	}
}

// TestInvalid is about what no destination can be.
func TestInvalid(t *testing.T) {
	t.Parallel()
	hosts, err := outbound.ParseHosts([]string{"*.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	wrong := func(c *Config) error {
		return errors.Join(c.Validate(), c.Admit(t.Context(), outbound.Rule{Hosts: hosts}))
	}
	for word, change := range map[string]func(*Config){
		"values: are missing": func(c *Config) { c.Values = nil },
		"no value, because":   func(c *Config) { c.Values = []string{"{{db_password}}={{db_password}}"} },
		"is no name":          func(c *Config) { c.Values = []string{"../x={{db_password}}"} },
		"a placeholder":       func(c *Config) { c.Values = []string{"x=literal"} },
		"timeout":             func(c *Config) { c.Timeout = time.Minute },
		"deadline":            func(c *Config) { c.Deadline = time.Second },
		"on_drift":            func(c *Config) { c.OnDrift = "ignore" },
		"hooks.example.net":   func(c *Config) { c.Target = &Webhook{URL: "https://hooks.example.net", Key: strings.Repeat("k", 16)} },
		"region: secretsmanager.eu-central-1.amazonaws.com": func(c *Config) { c.Target = &AWSSecretsManager{Region: "eu-central-1"} },
		"role_arn: sts.eu-central-1.amazonaws.com": func(c *Config) {
			c.Target = &AWSSecretsManager{Region: "eu-central-1", Endpoint: "https://vpce.example.com", RoleARN: "arn:aws:iam::123456789012:role/smvm"}
		},
		"in clear":           func(c *Config) { c.Target = &Webhook{URL: "http://hooks.example.com", Key: strings.Repeat("k", 16)} },
		"key":                func(c *Config) { c.Target = &Webhook{URL: "https://hooks.example.com", Key: "short"} },
		"region":             func(c *Config) { c.Target = &AWSSecretsManager{Region: "eu-central-1.example.com"} },
		"go together":        func(c *Config) { c.Target = &AWSSecretsManager{Region: "eu-central-1", AccessKeyID: "x"} },
		"role_arn":           func(c *Config) { c.Target = &AWSSecretsManager{Region: "eu-central-1", RoleARN: "x"} },
		"role_id, secret_id": func(c *Config) { c.Target = &VaultKV{Address: "https://vault.example.com"} },
		"one way to log in":  func(c *Config) { c.Target = &VaultKV{Address: "https://vault.example.com", Token: "x", RoleID: "y"} },
		"no path of a mount": func(c *Config) {
			c.Target = &VaultKV{Address: "https://vault.example.com", Token: "x", Mount: "a/../b"}
		},
	} {
		c := described()
		c.Target = &Webhook{URL: "https://hooks.example.com", Key: strings.Repeat("k", 16)}
		if err := wrong(c); err != nil {
			t.Fatal(err)
		}
		change(c)
		if err := wrong(c); !errors.Is(err, rotation.ErrInvalid) || !strings.Contains(err.Error(), word) {
			t.Errorf("want a word about %q, got %v", word, err)
		}
	}
}

// TestAWSRegions takes the regions of every partition there is, and of those to come;
// the SDK knows where each leads.
func TestAWSRegions(t *testing.T) {
	t.Parallel()
	for region, suffix := range map[string]string{
		"eu-central-1": "amazonaws.com", "us-gov-west-1": "amazonaws.com", "cn-north-1": "amazonaws.com.cn", "eusc-de-east-1": "amazonaws.eu",
		"us-iso-east-1": "c2s.ic.gov", "us-isob-east-1": "sc2s.sgov.gov", "mars-north-1": "amazonaws.com", "x": "amazonaws.com",
	} {
		a := &AWSSecretsManager{Region: region, RoleARN: "arn:aws-eusc:iam::123456789012:role/smvm"}
		want := map[string]string{"region": "https://secretsmanager." + region + "." + suffix, "role_arn": "https://sts." + region + "." + suffix}
		if err := a.Validate(); err != nil || !maps.Equal(a.Addresses(), want) {
			t.Errorf("%s: %v, and it leads to %v", region, err, a.Addresses())
		}
	}
	for _, region := range []string{"", "-", "a b", "a/b", "Europe", "eu_central_1", "eu-central-1.example.com", "eu-central-1:443", "x#", strings.Repeat("x", 64)} {
		if err := (&AWSSecretsManager{Region: region}).Validate(); !errors.Is(err, rotation.ErrInvalid) || !strings.Contains(err.Error(), "region") {
			t.Errorf("region %q: %v", region, err)
		}
	}
}
