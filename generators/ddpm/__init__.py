"""DDPM (Ho et al. 2020), its improved form (Nichol & Dhariwal 2021) and ADM (Dhariwal & Nichol 2021)."""
