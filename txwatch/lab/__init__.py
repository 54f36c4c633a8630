"""All that knows planted truth: the simulator and the evaluation."""
