"""The problems that the validation protocol trains on; none of them knows of this package."""
