"""`txwatch doctor`: looks at everything that the system needs and says in plain words what is missing."""
