"""Training the Combiner network on features that were extracted once."""
