# For Prometheus: the metrics of the engine, and nothing else. Change smvm if the
# engine is mounted elsewhere.
path "smvm/metrics" {
  capabilities = ["read"]
}
