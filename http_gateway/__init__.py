"""HTTP/JSON in front of the gRPC services: the contract's calls by the rules of `http.toml`."""
