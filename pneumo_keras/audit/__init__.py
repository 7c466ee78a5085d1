"""What images hold before anybody trains on them: counts, copies, patients, exposure."""
