"""Variational autoencoders with codes on a sphere, beside the Gaussian one."""
