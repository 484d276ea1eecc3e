"""An Airflow connection becomes an API, an authentication and a client."""
