"""Where films come from: named data sets, folders of files, phantoms."""
