# A Vault Proxy for applications that read smvm/creds by themselves and leave
# logging in to it (VAULT_ADDR=http://127.0.0.1:8100, no token):
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
