"""Speed, each figure beside a baseline of the same run. `make bench` runs all of them."""
