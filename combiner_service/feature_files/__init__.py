"""Features of a data set, extracted once by the frozen CLIP and read from memory-mapped files ever after."""
