// Package apps breaks the rule that an application gets nothing of Vault's with what it copies.
package apps

import _ "github.com/hashicorp/vault/sdk" // want depguard
