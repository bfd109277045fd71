"""What of an image is in the angles of its code, by an autoencoder (Figure 1.1)."""
