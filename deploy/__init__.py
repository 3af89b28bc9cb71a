"""Everything that puts the services somewhere: the local stack, images and charts."""
