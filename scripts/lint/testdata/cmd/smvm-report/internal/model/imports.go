// Package model breaks the rule that only the client talks to Vault.
package model

import _ "github.com/hashicorp/vault/sdk" // want depguard
