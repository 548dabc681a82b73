"""Training of the joint encoder that ships as an example."""
