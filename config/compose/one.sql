-- The row of profile `one`, once.
INSERT INTO `dispatcher`
    (`setid`, `destination`, `state`, `weight`, `priority`, `attrs`, `description`)
    SELECT 19, 'sip:10.129.39.88:7010', 0, 1, 100, 'pstn=100', 'TTS_MRCP_CLIENT_FS_7010'
    WHERE NOT EXISTS (SELECT 1 FROM `dispatcher`);
