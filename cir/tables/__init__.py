"""Tables, whatever their format: cells, the types of columns, and data frames of callers."""
