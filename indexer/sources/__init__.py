"""Sources of items: folders, manifests, tar shards, and images on the web."""
