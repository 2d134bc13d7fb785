"use client";
import styles from "./details.module.css";

export default function Details() {
  return <p className={styles.details}>Details of SPILLWAY-BUNDLES-1</p>;
}
