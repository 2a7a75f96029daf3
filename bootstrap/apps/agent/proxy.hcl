# A Vault Proxy. Applications read smvm/creds through it without a token
# (VAULT_ADDR=http://127.0.0.1:8100); the Proxy logs in for them:
#
#   vault proxy -config=proxy.hcl
#
# Everything that runs on this machine can then read what it may read.

auto_auth {
  method "approle" {
    config = {
      role_id_file_path                   = "/etc/smvm-api/role_id"
      secret_id_file_path                 = "/etc/smvm-api/secret_id"
      remove_secret_id_file_after_reading = false
    }
  }
}

api_proxy {
  use_auto_auth_token = "force"
}

listener "tcp" {
  address                = "127.0.0.1:8100"
  tls_disable            = true
  require_request_header = true
}
