"""Data modules and what they are made of: image files, labels, masks, preprocessing and corruptions.

`folder`, `samples`, `caltech101` and `cifar10` are the data modules. An image goes from `images` (a file becomes an RGB
picture, uint8) over `corruptions` (where asked for) and `preprocessing` (the size of the classifier, [0, 1]) into a
`Batch`. `in_memory` makes the same batches of images that a caller holds.
"""
