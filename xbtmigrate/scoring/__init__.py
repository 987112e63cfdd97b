"""How the scores of a mixed gallery combine: mixtures, fusion, calibration, hubness."""
