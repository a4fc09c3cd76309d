"""Incremental occlusion: scores of images with a window covered, computing again only what the window can change.

A covered window of 15 x 15 pixels changes a small region of each map of a convolutional network, which grows from layer
to layer with the receptive field. So the network runs once on the clean image, and for each window only the changed
region of each map, a patch, is computed and set into the clean map around it:

1. `recording` records the operations of one forward pass, for any number of images.
2. `nodes` turns the recording into nodes: `layers` whose output at a position depends on nothing but the input around it,
   and operations that need whole maps.
3. `receptive_fields` tells which rows and columns of each map a window can change.
4. `plan` groups the windows so that the patches of a group have one size in every map, and finds the node from which
   on whole maps are cheaper than patches.
5. `patches` runs the clean images and then the patches.
6. `drops` is the front: it decides whether all this pays, checks the result against the network itself, and gives
   f(x) - f(x with a window covered).
"""
