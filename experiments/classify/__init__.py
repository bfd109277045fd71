"""Image classification by softmax with and without margins, with any operator."""
