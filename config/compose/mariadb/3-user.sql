-- Tandem only reads. The password is that of database.password.
CREATE USER 'tandem'@'%' IDENTIFIED BY 'only-reads';
GRANT SELECT ON opensips.* TO 'tandem'@'%';
