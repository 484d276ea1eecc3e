"""What a remote service is asked and what its answers mean: no I/O and no Airflow."""
