"""How bytes travel from links to a destination: whole, verified, or not at all. Knows no API and no Airflow."""
