"""What is known of energies: bounds and expectations, in NumPy on the host."""
