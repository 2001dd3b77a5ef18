"""The main job on this machine, by real processes and a stand-in for WorkOS, checked at its end."""
