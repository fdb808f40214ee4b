"""DDPM (Ho et al. 2020), Improved DDPM (Nichol & Dhariwal 2021), ADM (Dhariwal & Nichol 2021)."""
