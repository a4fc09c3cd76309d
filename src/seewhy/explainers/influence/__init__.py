"""Internal influence: how much the score moves with each unit of an inner layer, for an image or over a set of images.

`slices` cuts a network in two at a layer and differentiates the score by the layer's output. `data_influence` averages
over the images of each class. `experts` ranks the units of each class by influence and measures what they are worth:
how well the network still tells the class from the rest with only its top experts left.

Leino, Sen, Datta, Fredrikson, Li: Influence-directed explanations for deep convolutional networks, ITC 2018.
"""
