"""Where images come from: named data sets, folders of files, phantoms."""
