"""Language models: nGPT beside a pre-norm transformer, and optimizers on spheres."""
