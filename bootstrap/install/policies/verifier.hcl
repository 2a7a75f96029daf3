# A service that accepts API keys asks whether one is valid, and reads nothing: it
# never gets a key but from those who present them. This is for the role "default";
# for another put its name in place of default.

path "smvm/api-key/default/+/verify" {
  capabilities = ["update"]
}
