"""What the mesh is compared with."""
