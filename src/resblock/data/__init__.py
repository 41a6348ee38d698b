"""Raw files to splits: the table of data sets, one reader per format, downloads verified member by member."""
