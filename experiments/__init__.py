"""One small script for each result; they use sphax as a stranger would."""
