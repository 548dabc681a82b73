"""A catalog of drawn garments whose attributes are known, for training and as a benchmark."""
