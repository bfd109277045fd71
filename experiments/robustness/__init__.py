"""Decoupled networks under adversarial attacks, trained naturally and on attacks."""
