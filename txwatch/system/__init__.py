"""The whole product as one supervised set of processes on one machine."""
