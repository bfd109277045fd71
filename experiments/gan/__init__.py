"""Do geometry and diversity of neurons help small generative adversarial networks?"""
