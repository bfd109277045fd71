"""Any network with any operator, by softmax with and without margins, on images."""
