"""From a catalog's columns and titles to triplets: what a shop has in place of annotated queries.

From the bottom up: `columns` reads attributes from payloads, `agreement` compares them with the images,
`phrasings` says changes of them as texts, `triplets` and `titles` draw queries, `clicks` reads those of a
log, `dataset` puts them together; `recipe` has the numbers of the training, `measure` compares its result.
"""
