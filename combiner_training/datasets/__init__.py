"""Data sets of composed queries: loading FashionIQ, CIRR and triplet manifests, and checking folders."""
