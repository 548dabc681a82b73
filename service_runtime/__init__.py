"""What every service shares: settings, server life, errors, health, reflection, limits, logging."""
