# A responder answers leaks: asks which secret a text is or was a value of, and has
# that secret replaced at once (respond=true). The answer has no value. But whoever may
# write this path can try guesses, as often as Vault lets them, so operator.hcl does not
# have it: give it to the few people, or the scanner, who are told of leaks. For a
# scanner that is only to ask, add:
#
#   denied_parameters = { "respond" = [] }

path "smvm/leaked" {
  capabilities = ["update"]
}
