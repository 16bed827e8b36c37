"""A small video model: a pipeline of our own on components of diffusers."""
