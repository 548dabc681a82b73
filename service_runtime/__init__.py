"""Parts that every service shares: settings, server life, errors, keys and TLS, limits, metrics, logging."""
